"""Reading a room: who may read it, page by page, its state then and now, and in which form.

The door is `readers`; `pages` walks through the timeline; `states` tells the state of a moment;
`client_forms` encodes what one reader gets to see of an event.
"""
