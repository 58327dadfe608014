"""Who says how good an answer is: programs, a judge, people."""
