"""FID, KID and MiFID of two folders of images, or of a checkpoint, as a table, JSON and a page."""
