"""Text into vectors: `local` on this machine, `genai` with Gemini. Import the module that is wanted."""
