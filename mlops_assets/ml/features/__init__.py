"""From prepared rows to feature arrays, with the preprocessing that serving repeats."""
