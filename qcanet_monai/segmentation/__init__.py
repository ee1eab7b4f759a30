"""From an image to labelled objects, their table and the files of a batch."""
