"""Collections: folders of large images, free of metadata, with tiles for deep zoom and what is known of each."""
