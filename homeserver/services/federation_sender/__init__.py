"""What we have to tell other servers: followers of the stream, one task per destination.

`sender` follows the stream and knows who is to be told what; `destination` sends it, in order,
until it is taken; `stored_edus` and `passing_edus` make the EDUs that must arrive and those that
need not.
"""
