"""From alerts to incidents: what one fault did to one entity is one thing. Pure; a function of the alerts."""
