__version__ = "0.1.0"

import os as _os
_os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')   # ONNX Runtime from 1.29 on reports to its maker, and keeps files of its own for that, unless told not to before it is imported
