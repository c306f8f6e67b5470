"""Pages: all that is made for a browser, in one look, each page a file that loads nothing."""

from specvlm.pages.rendering import Picture, as_json, data_uri, render

__all__ = ["Picture", "as_json", "data_uri", "render"]
