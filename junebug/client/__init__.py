"""The command `junebug`: what an operator does at a terminal."""
