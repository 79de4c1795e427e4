"""S3 in memory, with its bucket. A restart forgets everything."""

import os
import signal

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="0.0.0.0", port=5000, verbose=False)
server.start()
boto3.client("s3", endpoint_url="http://127.0.0.1:5000").create_bucket(Bucket=os.environ["MLOPS_BUCKET"])
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
signal.pause()
