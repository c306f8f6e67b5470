"""Read videos: a file, bytes, an array or a folder of pictures becomes a few frames and the times they are shown at."""

from specvlm.video.clip import Video
from specvlm.video.loading import load
from specvlm.video.pictures import load_image
from specvlm.video.sampling import DEFAULT_NUM_FRAMES, Timeline
from specvlm.video.screening.screening import Clip

__all__ = ["DEFAULT_NUM_FRAMES", "Clip", "Timeline", "Video", "load", "load_image"]
