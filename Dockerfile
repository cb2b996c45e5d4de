# One image for every role: the detector, its jobs, the producers and the consumers.
#
#   docker build -t stream-detector .
#   docker build -t stream-detector --build-arg PIP_EXTRA_INDEX_URL=<an index of CPU builds of torch> .    # smallest
#   docker build -t stream-detector:cuda --build-arg DEVICE=cuda .                                         # for a GPU
#
# Plain Dockerfile syntax only, so that any builder can build it.

ARG PYTHON=python:3.13-slim

# Of pyproject.toml only this list matters below, so that other changes to it do not fetch everything again.
# With what a tracked training needs: retraining keeps its runs, with their plots.
FROM ${PYTHON} AS requirements
COPY pyproject.toml /
RUN python -c "import tomllib; p = tomllib.load(open('/pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['training'], sep='\n')" > /requirements.txt

FROM ${PYTHON} AS dependencies
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY --from=requirements /requirements.txt ./
COPY constraints.txt ./
RUN pip install --quiet -c constraints.txt -r requirements.txt
COPY docker/prune.py ./
RUN if [ "$DEVICE" = cpu ]; then python prune.py; fi

FROM dependencies AS package
COPY . .
RUN pip install --quiet --no-deps --prefix=/package .

FROM ${PYTHON}
LABEL org.opencontainers.image.title="stream-detector" \
      org.opencontainers.image.description="GAN-based streaming anomaly detection for Kafka" \
      org.opencontainers.image.licenses="Apache-2.0"
# No home and no shell: the containers write nothing but /tmp, and retraining its runs.
RUN groupadd --gid 10001 detector \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin detector \
 && install --directory --owner=10001 --group=10001 /var/lib/stream-detector
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /package /opt/venv
# The programs around the detector, for `python -m`: names as general as theirs are not installed.
COPY consumers /opt/programs/consumers
COPY producers /opt/programs/producers
COPY demo /opt/programs/demo
# One thread a process: threads that share a core with the Kafka client make both slower.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/programs PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
# The scoring kernel, compiled for the processor that builds; on another kind each container compiles its own.
ENV NUMBA_CACHE_DIR=/opt/compiled
COPY docker/compile.py docker/health.py /opt/
RUN python /opt/compile.py && chmod -R a+rX /opt/compiled
USER 10001:10001
WORKDIR /tmp
# For the command below; other commands have no listener, and the services of docker-compose.yml switch it off.
HEALTHCHECK --interval=5s --timeout=12s --start-period=60s --retries=6 CMD ["python", "/opt/health.py"]
ENTRYPOINT ["stream-detector"]
CMD ["run", "-c", "/etc/stream-detector/config.yaml"]
