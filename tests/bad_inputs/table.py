"""Everything that is known to go wrong, by verb."""

from tests.bad_inputs.evaluate import EVALUATE
from tests.bad_inputs.files import PLAN, REST, SIZE
from tests.bad_inputs.prepare import PREPARE
from tests.bad_inputs.train import REFUSED

BAD_INPUTS = (*PREPARE, *SIZE, *PLAN, *REFUSED, *EVALUATE, *REST)
