"""Work in a process of its own: settings in, metrics while it works, one result out."""
