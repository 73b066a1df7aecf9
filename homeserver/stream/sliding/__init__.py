"""Simplified sliding sync (MSC4186): lists of rooms, windows on them, and what is new in those.

`request`: what a client asks. `connections`: what each of its connections was told so far.
`lists`: which rooms, in which order. `rooms`: what is told of a room. `extensions`: the rest.
`sync`: the long poll that puts them together. `build`: all of it, joined.
"""
