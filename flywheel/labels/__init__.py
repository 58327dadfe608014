"""How far each annotator can be trusted, and what a crowd's labels come to."""
