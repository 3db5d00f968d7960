"""What a kubelet does with the words of a container."""

import re
from collections.abc import Mapping, Sequence


def expanded(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Words as Kubernetes hands them over: ``$(NAME)`` replaced, ``$$`` one dollar sign."""

    def value(match: re.Match[str]) -> str:
        return environment.get(match[1], match[0]) if match[1] else "$"

    return [re.sub(r"\$\$|\$\(([A-Za-z_]\w*)\)", value, word) for word in words]
