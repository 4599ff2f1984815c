"""The flow beside the solvers that a user would pick instead, at equal accuracy.

The packages it compares with are not needed for anything else, and are installed for it alone::

    .venv/bin/python -m venv _build/peers
    _build/peers/bin/python -m pip install --requirement benchmarks/peers/requirements.txt
    PYTHONPATH=$PWD:$(.venv/bin/python -c 'import site; print(site.getsitepackages()[0])') \
        _build/peers/bin/python -m benchmarks.peers
"""
