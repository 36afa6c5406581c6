"""The studio: upload, create classes, tag, train and look, in a browser and by API."""
