"""The review studio: pages on which people accept, reject and edit the records of a build. See `docs/studio.md`.

It needs the extra ``studio``. Records stay in the folder of their build; the database holds who said what of them.
"""
