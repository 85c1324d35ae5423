"""Names of the files that go to a device and come back."""

__all__ = ["MANIFEST_FILE", "MANIFEST_FORMAT", "RESULT_FORMAT"]

MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT = "espalier-runner-manifest"
RESULT_FORMAT = "espalier-runner-result"
