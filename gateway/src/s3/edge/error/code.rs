//! S3's error codes, with S3's status and sentence for each.

use http::StatusCode;

/// Makes the enum and its table of names, statuses and sentences.
macro_rules! codes {
    ($($code:ident = $name:literal, $status:literal, $sentence:literal;)+) => {
        /// Why a request was refused or failed, as S3 names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::s3) enum Code {
            $($code),+
        }

        impl Code {
            const fn row(self) -> (&'static str, u16, &'static str) {
                match self {
                    $(Self::$code => ($name, $status, $sentence)),+
                }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported = "AccessControlListNotSupported", 400,
        "The bucket does not allow ACLs";
    AccessDenied = "AccessDenied", 403,
        "Access Denied";
    AuthorizationHeaderMalformed = "AuthorizationHeaderMalformed", 400,
        "The authorization header is malformed";
    AuthorizationQueryParametersError = "AuthorizationQueryParametersError", 400,
        "Error parsing the parameters of a presigned URL";
    BadDigest = "BadDigest", 400,
        "The digest you specified did not match what we received.";
    BucketAlreadyExists = "BucketAlreadyExists", 409,
        "The requested bucket name is not available. Please select a different \
             name and try again.";
    BucketAlreadyOwnedByYou = "BucketAlreadyOwnedByYou", 409,
        "Your previous request to create the named bucket succeeded and you \
             already own it.";
    BucketNotEmpty = "BucketNotEmpty", 409,
        "The bucket you tried to delete is not empty";
    ConditionalRequestConflict = "ConditionalRequestConflict", 409,
        "A conflicting operation occurred. If using PutObject you can retry the \
             request.";
    EntityTooLarge = "EntityTooLarge", 400,
        "Your proposed upload exceeds the maximum allowed size";
    EntityTooSmall = "EntityTooSmall", 400,
        "Your proposed upload is smaller than the minimum allowed size";
    IllegalLocationConstraint = "IllegalLocationConstraintException", 400,
        "The location constraint is incompatible for the region specific \
             endpoint this request was sent to.";
    IncompleteBody = "IncompleteBody", 400,
        "You did not provide the number of bytes specified by the Content- \
             Length HTTP header";
    InternalError = "InternalError", 500,
        "We encountered an internal error. Please try again.";
    InvalidAccessKeyId = "InvalidAccessKeyId", 403,
        "The AWS Access Key Id you provided does not exist in our records.";
    InvalidArgument = "InvalidArgument", 400,
        "Invalid Argument";
    InvalidBucketAcl = "InvalidBucketAclWithObjectOwnership", 400,
        "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting";
    InvalidBucketName = "InvalidBucketName", 400,
        "The specified bucket is not valid.";
    InvalidDigest = "InvalidDigest", 400,
        "The Content-MD5 you specified is not valid.";
    InvalidPart = "InvalidPart", 400,
        "One or more of the specified parts could not be found. The part may \
             not have been uploaded, or the specified entity tag may not match the \
             part's entity tag.";
    InvalidPartNumber = "InvalidPartNumber", 416,
        "The requested partnumber is not satisfiable";
    InvalidPartOrder = "InvalidPartOrder", 400,
        "The list of parts was not in ascending order. Parts must be ordered by \
             part number.";
    InvalidRange = "InvalidRange", 416,
        "The requested range is not satisfiable";
    InvalidRequest = "InvalidRequest", 400,
        "Invalid Request";
    InvalidStorageClass = "InvalidStorageClass", 400,
        "The storage class you specified is not valid";
    InvalidToken = "InvalidToken", 400,
        "The provided token is malformed or otherwise invalid.";
    InvalidUri = "InvalidURI", 400,
        "Couldn't parse the specified URI.";
    KeyTooLong = "KeyTooLongError", 400,
        "Your key is too long";
    MalformedTrailer = "MalformedTrailerError", 400,
        "The request contained malformed chunks or trailing headers.";
    MalformedXml = "MalformedXML", 400,
        "The XML you provided was not well-formed or did not validate against \
             our published schema";
    MaxMessageLengthExceeded = "MaxMessageLengthExceeded", 400,
        "Your request was too large.";
    MetadataTooLarge = "MetadataTooLarge", 400,
        "Your metadata headers exceed the maximum allowed metadata size";
    MissingContentLength = "MissingContentLength", 411,
        "You must provide the Content-Length HTTP header.";
    MissingRequestBody = "MissingRequestBodyError", 400,
        "Request Body is empty";
    NoSuchBucket = "NoSuchBucket", 404,
        "The specified bucket does not exist";
    NoSuchKey = "NoSuchKey", 404,
        "The specified key does not exist.";
    NoSuchUpload = "NoSuchUpload", 404,
        "The specified upload does not exist. The upload ID may be invalid, or \
             the upload may have been aborted or completed.";
    NoSuchVersion = "NoSuchVersion", 404,
        "The specified version does not exist.";
    NotImplemented = "NotImplemented", 501,
        "A header or operation you provided implies functionality that is not \
             implemented";
    NotModified = "NotModified", 304,
        "Not Modified";
    PreconditionFailed = "PreconditionFailed", 412,
        "At least one of the pre-conditions you specified did not hold";
    RequestTimeTooSkewed = "RequestTimeTooSkewed", 403,
        "The difference between the request time and the server's time is too \
             large.";
    RequestTimeout = "RequestTimeout", 400,
        "Your socket connection to the server was not read from or written to \
             within the timeout period.";
    ServiceUnavailable = "ServiceUnavailable", 503,
        "Service is unable to handle request.";
    SignatureDoesNotMatch = "SignatureDoesNotMatch", 403,
        "The request signature we calculated does not match the signature you \
             provided. Check your key and signing method.";
    SlowDown = "SlowDown", 503,
        "Please reduce your request rate.";
    XAmzContentSha256Mismatch = "XAmzContentSHA256Mismatch", 400,
        "The provided 'x-amz-content-sha256' header does not match what was \
             computed.";
}

impl Code {
    /// Returns the name that clients look at.
    pub(in crate::s3) fn name(self) -> &'static str {
        self.row().0
    }

    pub(in crate::s3) fn status(self) -> StatusCode {
        // All statuses of the table are valid.
        StatusCode::from_u16(self.row().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Returns S3's sentence for it, used if there is nothing more specific.
    pub(in crate::s3) fn sentence(self) -> &'static str {
        self.row().2
    }
}
