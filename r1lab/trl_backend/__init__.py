"""The same runs on TRL, from one device to several machines."""
