"""The one public listener that channels of HTTP types can share: its process, and the routes that the channels leave for it."""
