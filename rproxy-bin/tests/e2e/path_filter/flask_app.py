"""Serves a directory with Flask, which decodes paths with Werkzeug. Usage: flask_app.py FOLDER PORT"""

import logging
import sys

from flask import Flask, send_from_directory

app = Flask(__name__, static_folder=None)
logging.getLogger("werkzeug").disabled = True


@app.route("/<path:path>")
def file(path):
    return send_from_directory(sys.argv[1], path)


app.run("127.0.0.1", int(sys.argv[2]), threaded=True)
