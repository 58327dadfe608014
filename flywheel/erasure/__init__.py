"""Taking out what people asked to have taken out, everywhere, and served logs after their time."""
