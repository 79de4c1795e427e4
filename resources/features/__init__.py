"""The online store of feature views, and the look-up in it."""
