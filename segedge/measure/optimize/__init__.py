"""Which precision on which backend: candidates, their accuracy and speed, and the one to take."""
