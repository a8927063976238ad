"""What this machine has and what is missing: facts are read, judged by checks, and said by the diagnosis."""
