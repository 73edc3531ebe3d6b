"""As much of JSON Schema as the schemas of this repository use; a word it does not know is an error, so that nothing is passed over."""

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
ABOUT = {"$schema", "$id", "$defs", "title", "description", "examples", "format", "default"}


class Schema:
    def __init__(self, schema):
        self.root = schema

    def errors(self, value):
        return list(self.look(value, self.root, ""))[:3]

    def is_type(self, value, name):
        if name in ("integer", "number"):
            return isinstance(value, int if name == "integer" else (int, float)) and not isinstance(value, bool)
        return isinstance(value, TYPES[name])

    def look(self, value, schema, at):
        if schema is True:
            return
        if schema is False:
            yield f"{at} may not be there"
            return
        for word, rule in schema.items():
            if word == "$ref":
                target = self.root
                for part in rule.removeprefix("#/").split("/"):
                    target = target[part]
                yield from self.look(value, target, at)
            elif word == "type":
                if not any(self.is_type(value, one) for one in ([rule] if isinstance(rule, str) else rule)):
                    yield f"{at} is no {rule}"
                    return
            elif word in ("const", "enum"):
                if value not in ([rule] if word == "const" else rule):
                    yield f"{at} is {value!r}"
            elif word == "minimum":
                if isinstance(value, (int, float)) and value < rule:
                    yield f"{at} is below {rule}"
            elif word == "maximum":
                if isinstance(value, (int, float)) and value > rule:
                    yield f"{at} is above {rule}"
            elif word == "required":
                yield from (f"{at}/{name} is missing" for name in rule if isinstance(value, dict) and name not in value)
            elif word == "properties":
                for name, inner in rule.items():
                    if isinstance(value, dict) and name in value:
                        yield from self.look(value[name], inner, f"{at}/{name}")
            elif word == "additionalProperties":
                for name in value if isinstance(value, dict) else ():
                    if name not in schema.get("properties", {}):
                        yield from self.look(value[name], rule, f"{at}/{name}")
            elif word == "items":
                for n, one in enumerate(value if isinstance(value, list) else ()):
                    yield from self.look(one, rule, f"{at}/{n}")
            elif word == "allOf":
                for one in rule:
                    yield from self.look(value, one, at)
            elif word in ("oneOf", "anyOf"):
                found = [list(self.look(value, one, at)) for one in rule]
                if all(found):
                    yield min(found, key=len)[0]
            elif word not in ABOUT:
                yield f"{at}: the schema has {word}, which is not understood here"
