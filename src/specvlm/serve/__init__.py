"""A server that speaks the API of OpenAI about videos. The extra `specvlm[serve]` brings what it takes."""
