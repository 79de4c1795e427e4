"""Delete objects of the bucket."""

import os
import sys

import boto3

client = boto3.client("s3")
for key in sys.argv[1:]:
    client.delete_object(Bucket=os.environ["MLOPS_BUCKET"], Key=key)
