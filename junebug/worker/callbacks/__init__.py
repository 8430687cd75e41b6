"""MO messages, events and statuses: to the application."""
