"""The log in object storage, which any number of machines share."""

from eventstore.log.objects.object_log import ObjectLog

__all__ = ["ObjectLog"]
