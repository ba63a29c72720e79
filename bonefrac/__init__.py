__version__ = "0.1.0"

import os as _os
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")   # ONNX Runtime from 1.29 on reports to its maker unless told not to

def load_ipython_extension(shell):
    "After `%load_ext bonefrac`, `?` shows what the parameters of bonefrac's functions mean"
    def shown(data):
        from .jupyter import docments_help
        return docments_help(data)
    shell.inspector.mime_hooks['text/plain'] = shown
