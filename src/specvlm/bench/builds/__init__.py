"""Two builds of specvlm measured against each other, in processes that take turns."""
