"""From source files to prepared rows: the data contract, reading, checking, cleaning and splitting."""
