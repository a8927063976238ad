"""Packages in OCI registries: ``pushing`` and ``pulling`` of CNCF's ``model_pack``, and KServe's ``modelcar``.

An ``address`` names a place, ``credentials`` come from where docker keeps them, ``connections`` carry requests over
HTTP, ``authorization`` gets them in, and ``client`` speaks the protocol of registries. It takes the standard library
alone: oras-py 0.2.43, which is what there is, reads a file into memory to send it, goes on with no download that broke
off, and does not look at the SHA-256 of what it receives.
"""
