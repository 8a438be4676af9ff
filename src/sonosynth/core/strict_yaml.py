"""YAML that people write (study files, recipes, settings) as plain values; a key that stands twice is an error."""

from typing import Any

import yaml

_NOT_VALUES = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")  # the keys << and =


def parse_yaml(text: str) -> Any:
    """Return the plain value of a YAML document. A merge key (``<<``) is followed, and its values can be overridden.

    Raises:
        DuplicateKeyError: a key stands twice in one mapping.
        yaml.YAMLError: the text is not YAML.
        ValueError: a date that no calendar has.
    """
    return yaml.load(text, _Loader)


class DuplicateKeyError(yaml.YAMLError):
    """A key stands twice in one mapping, of which PyYAML alone would use the last without a word."""


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # no key of a plain mapping, as will be said
            name = key.value if key.tag in _NOT_VALUES else self.construct_object(key)
            line = key.start_mark.line + 1
            if name in lines:
                raise DuplicateKeyError(
                    f"line {line}: the key '{key.value}' stands twice in one mapping, first in line {lines[name]}; "
                    "remove one of the two"
                )
            lines[name] = line
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put what a merge key brings before the keys that override it; of several mappings, the first wins.

        So says https://yaml.org/type/merge.html; in PyYAML 6.0.4 the last of several wins where names are long.
        """
        merges = [value for key, value in node.value if key.tag == _NOT_VALUES[0]]
        node.value = [pair for pair in node.value if pair[0].tag != _NOT_VALUES[0]]
        super().flatten_mapping(node)
        for value in merges:
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(source, yaml.MappingNode):
                    where = f"line {source.start_mark.line + 1}"
                    raise yaml.YAMLError(f"{where}: a merge key (<<) takes a mapping, or a list of mappings")
                self.flatten_mapping(source)
                node.value = list({_same_key(key): (key, value) for key, value in source.value + node.value}.values())


def _same_key(key: yaml.Node) -> object:
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
