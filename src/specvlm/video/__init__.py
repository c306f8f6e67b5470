"""Read videos: a file, bytes, an array or a folder of pictures becomes a few frames and the times they are shown at."""

from specvlm.video.clip import Video
from specvlm.video.loading import DEFAULT_NUM_FRAMES, load

__all__ = ["DEFAULT_NUM_FRAMES", "Video", "load"]
