"""Find out whether machines, engines and images are fit for the course."""
