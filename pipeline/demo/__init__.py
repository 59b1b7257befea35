"""The bundled job on rendered scenes."""
