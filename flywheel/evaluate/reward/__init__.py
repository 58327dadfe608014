"""How far a learned reward can be trusted, and where more of it stops being better."""
