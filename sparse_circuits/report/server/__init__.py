"""The local server behind the page: models that answer what a browser asks."""
