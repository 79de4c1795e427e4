"""Print the contents of objects of the bucket, one after the other."""

import os
import sys

import boto3

client = boto3.client("s3")
for key in sys.argv[1:]:
    print(client.get_object(Bucket=os.environ["MLOPS_BUCKET"], Key=key)["Body"].read().decode())
