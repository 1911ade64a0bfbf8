"""Normalises the answers of providers: strict about text, tokens and the end, lenient otherwise.

The providers' clients check every field of their protocol. Servers with small deviations give
answers that a client would reject over an unneeded field, although they are paid for. So answers
are rewritten before a client sees them, with only the needed fields. An error inside a 200 becomes
the matching error status.
"""
