# What this package uses of ml_collections, with values of any type: the library types them as a
# union that no key fits.
from ml_collections.config_dict import ConfigDict as ConfigDict
from ml_collections.config_dict import FrozenConfigDict as FrozenConfigDict
