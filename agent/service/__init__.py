"""Services around a long-running run: health, metrics, MQTT, maintenance jobs, and notifications to systemd."""
