"""Values that methods take and return, as JSON; used on both sides, so it imports neither store."""

import base64


def encoded(value):
    """Messages, lists, tuples, list options and plain values as JSON-compatible data.

    Anything else is refused, which reveals a method that returns another kind of sequence.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is list:
        return [encoded(member) for member in value]
    if type(value) is tuple:
        return {"tuple": [encoded(member) for member in value]}
    if hasattr(value, "SerializeToString"):
        content = base64.b64encode(value.SerializeToString(deterministic=True)).decode()
        return {"message": value.DESCRIPTOR.full_name, "content": content}
    if type(value).__name__ == "ListOptions":
        order_by = None if value.order_by is None else value.order_by.name
        return {"list_options": [value.limit, order_by, value.is_asc, value.filter_query]}
    raise TypeError(f"{type(value)} is nothing that the API takes or returns")


def decoded(data, package, modules):
    """The values again, with the message classes in `modules` and the list options of `package`."""
    if isinstance(data, list):
        return [decoded(member, package, modules) for member in data]
    if not isinstance(data, dict):
        return data
    if "tuple" in data:
        return tuple(decoded(member, package, modules) for member in data["tuple"])
    if "list_options" in data:
        limit, order_by, is_asc, filter_query = data["list_options"]
        order = None if order_by is None else package.OrderByField[order_by]
        return package.ListOptions(limit, order, is_asc, filter_query)
    name = data["message"].rpartition(".")[2]
    message_class = next(getattr(m, name) for m in modules if hasattr(m, name))
    return message_class.FromString(base64.b64decode(data["content"]))
