"""The page at `/`: a video, a conversation about it, and stock generate racing SpecVLM, for any browser."""

from specvlm.serve.page.routes import router

__all__ = ["router"]
