"""Text for students: French, and tables. This room imports nothing of labkit."""
