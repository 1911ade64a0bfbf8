"""What providers answer, read strictly where text, tokens and the end are told, and leniently else.

The clients of providers check every field of their protocol, and servers that speak it almost give
answers that are thrown away over a field which nobody needs, though they are paid for. So answers
are written anew before a client sees them, of what is needed alone; an error inside a 200 becomes
the error status that it tells of.
"""
