"""The page that tells an evaluation."""
